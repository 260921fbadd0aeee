"""Between protobuf messages and the domain."""
