"""How far can one trust the probabilities, sets and warnings?"""
