"""What was found once is found everywhere: each file exports `find(text, spans)`, which gives the other mentions."""
