"""What one chapter needs and no other: its figures, its exercises, and the code of its lesson that
its solutions go on with.
"""
