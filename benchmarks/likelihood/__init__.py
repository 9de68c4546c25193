"""What does the likelihood cost, and does it notice foreign images?"""
