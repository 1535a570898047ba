"""Random estates, random edits, and something killed, cut, filled or stopped at a random moment: is anything lost?"""
