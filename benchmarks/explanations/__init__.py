"""Do maps and counterfactuals show what decides?"""
