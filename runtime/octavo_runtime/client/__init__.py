"""An async client for several OpenAI-compatible servers, with retries, failover and circuit breaking."""

from octavo_runtime.client.client import Client as Client
from octavo_runtime.client.errors import ApiError as ApiError
from octavo_runtime.client.errors import ClientError as ClientError
from octavo_runtime.client.errors import InvalidRequest as InvalidRequest
from octavo_runtime.client.errors import NoAnswer as NoAnswer
from octavo_runtime.client.errors import NotAllowed as NotAllowed
from octavo_runtime.client.errors import RateLimited as RateLimited
from octavo_runtime.client.errors import ServerFailed as ServerFailed
from octavo_runtime.client.errors import StreamBroken as StreamBroken
