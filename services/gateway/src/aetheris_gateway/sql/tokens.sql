-- name: token_keys
SELECT id, secret FROM gateway.token_keys ORDER BY id DESC;

-- name: add_token_key
-- If two gateways add the same key id at one moment, the first one's key is kept.
INSERT INTO gateway.token_keys (id, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING;
