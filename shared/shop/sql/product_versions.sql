-- $1 ids, as text[]
SELECT id, version FROM products WHERE id = ANY ($1::text[]::bigint[])
