"""Several findings of one image: how should networks be shared among them?"""
