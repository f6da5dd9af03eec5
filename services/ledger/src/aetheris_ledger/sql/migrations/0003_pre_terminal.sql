-- Which commits end their jobs: the ledger accepts no commit behind one of these.

ALTER TABLE ledger.commits ADD COLUMN terminal boolean NOT NULL DEFAULT false;
