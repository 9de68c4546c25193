"""How few draws give the class of all draws?"""
