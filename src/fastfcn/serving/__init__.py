"""`fastfcn serve`: HTTP API and web page, with a bounded queue, request limits, logs and metrics."""
