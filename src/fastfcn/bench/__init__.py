"""Speed, memory and FLOPs of networks: what `fastfcn bench` and `fastfcn profile` measure."""
