"""Load on a server by callers that behave like trainers and routers."""
