"""A scripted provider on a real socket: demo answers, rehearsed faults, the tests' upstream."""
