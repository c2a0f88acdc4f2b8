"""What left this machine, kept and told: the exact bytes, encrypted on this machine, and who got how many of them."""
