"""What a job's record is made of: events, the chain that holds them, and their bytes.

`events`, `chain`, `effect`, `append` and `replay` are pure (standard library only), so cores may use them; `codec`
alone knows the wire.
"""
