"""Remote procedure calls over HTTP/2: gRPC's transport and messages, knowing no service. Why our own: decision 0009."""
