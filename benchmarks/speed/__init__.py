"""How long does it take, what memory, and where does the time go?"""
