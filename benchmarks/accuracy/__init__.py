"""How right are the classes, beside a ResNet-18 and in subgroups?"""
