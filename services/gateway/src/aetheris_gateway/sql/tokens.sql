-- name: token_keys
SELECT id, secret FROM gateway.token_keys ORDER BY id DESC;

-- name: add_token_key
-- Where two make the same one at one moment, the first one's stands.
INSERT INTO gateway.token_keys (id, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING;
