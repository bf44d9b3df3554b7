"""Load tests: requests arrive at given times, and a server in this process answers them."""
