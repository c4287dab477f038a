"""The test of the tests: small mutations of the product, each of which a test must notice.

``python -m tests.mutants`` runs them all, ``python -m tests.mutants.table`` those of the table.
"""
