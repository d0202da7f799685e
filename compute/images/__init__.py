"""Environments as images: what a recipe's image is made of, building it, finding it again, cleaning up.

``dockerfile`` (the user's own), ``plan`` and ``resolve`` say what to build; ``job`` is the program that builds, with
``engine``, ``probe``, ``transport`` and ``building`` for each of its errands; ``builds`` starts it and reads what it
left; ``store`` lists and removes images.
"""
