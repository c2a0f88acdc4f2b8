"""Speech to text: audio files decoded, cut into stretches of speech, and written down by an encoder and a decoder."""
