-- Reads the table beside its readers and writers.
ALTER TABLE ledger.commits VALIDATE CONSTRAINT commits_first_ids;
