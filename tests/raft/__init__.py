"""Tests of the consensus core: transcripts, tables, properties and the claims of the Raft paper."""
