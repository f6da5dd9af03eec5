-- name: token_keys
SELECT id, secret FROM gateway.token_keys ORDER BY id DESC;

-- name: confirm_token_key
-- Waits until a standby has the key, like `standing_signals`: a token of a key that a failover takes back is worth nothing.
SELECT (SELECT pg_logical_emit_message(true, 'aetheris', '')) AS confirmed FROM gateway.token_keys WHERE id = $1;

-- name: add_token_key
-- If two gateways add the same key id at one moment, the first one's key is kept.
INSERT INTO gateway.token_keys (id, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING;
