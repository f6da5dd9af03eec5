-- Which commits hold a checkpoint, so that whoever takes a job over begins to read at the last one.

ALTER TABLE ledger.commits ADD COLUMN checkpoint boolean NOT NULL DEFAULT false;

CREATE INDEX commits_checkpoints ON ledger.commits (job_id, seq) WHERE checkpoint;
