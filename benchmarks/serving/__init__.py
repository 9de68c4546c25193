"""How fast does the MONAI Label server answer, and does it stay small?"""
