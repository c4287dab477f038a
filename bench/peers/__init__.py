"""What others do with the same work: each module is one peer, and a program of that peer's.

``begin(crew, place, stub, workers)`` starts the peer's programs, which a crew then waits for, and
gives what puts jobs before them: ``put(numbers)``. Jobs that are put together start together.
"""
