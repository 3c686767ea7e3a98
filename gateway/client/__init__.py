"""What faces the client: its connection, its request's head and body, headers both ways."""
