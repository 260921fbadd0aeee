"""Load tests: callers that behave like trainers and routers."""
