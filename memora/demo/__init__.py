"""`python -m memora demo`: every character that Unicode names, loaded, queried, followed and served by five processes at once.

characters.py says what is loaded, roles.py is the programs (an example of code that uses Memora), stage.py runs them and
checks what they say, report.py shows it.
"""
from memora.demo.stage import main

__all__ = ["main"]
