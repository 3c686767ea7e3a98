"""The way out: a seam, `Engine.send(outbound) -> Answer`, and what works behind it."""
