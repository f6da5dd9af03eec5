-- Reads the table beside its readers and writers.
ALTER TABLE ledger.commits VALIDATE CONSTRAINT commits_body_bytes_check;
