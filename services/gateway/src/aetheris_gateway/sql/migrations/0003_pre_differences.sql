-- What an edit of the arguments changed, JSON, computed once, when the decision is made. It is NULL in rows that are older
-- than this column, and for those it is computed when they are read.
ALTER TABLE gateway.decisions ADD COLUMN difference bytea;
