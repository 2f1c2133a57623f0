"""`python -m memora.demo ROLE ...`: one of the demo's processes; stage.py starts them."""
import sys

from memora.demo.roles import main

sys.exit(main(sys.argv[1:]))
