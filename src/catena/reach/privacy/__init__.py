"""What is private, and what may leave: labels, detectors, pseudonyms, policy; in doubt nothing leaves."""
