"""The SDK for a program under Aeterna. `aeterna.AeternaClient` is the usual entry; each module can be used alone."""
