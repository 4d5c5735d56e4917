-- $1 ids, as text[]
SELECT id, stock FROM products WHERE id = ANY ($1::text[]::bigint[])
