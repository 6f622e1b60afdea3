"""`octavo plan`: does a model fit on a GPU, how fast could it be, and which configuration suits a workload."""
