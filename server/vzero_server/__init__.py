"""The vzero server: values of prompts under policies, served over gRPC."""
