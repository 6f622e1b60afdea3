module octavo.dev/tools/cluster/pause

go 1.26
