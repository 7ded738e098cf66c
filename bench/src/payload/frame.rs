//! Headers of requests, responses and streams: what the other end must know to answer and to check.
