"""What the kind is called: names that stand in the definition, in rules and in every object."""

GROUP = "serving.octavo.dev"
VERSION = "v1alpha1"
KIND = "LLMService"
PLURAL = "llmservices"
API_VERSION = f"{GROUP}/{VERSION}"
MAX_NAME = 40  # a pod's name is the service's, two hashes and two dashes; 63 characters at most
NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
