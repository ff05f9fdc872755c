"""What keys, client secrets and addresses take, against their limits."""
