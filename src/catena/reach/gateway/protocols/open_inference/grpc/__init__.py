"""The same protocol over gRPC: `inference.GRPCInferenceService`."""
