-- The next products by id; costs the same at any depth. $1 the last id of the page before, $2 how many
SELECT id, name, description, price_cents, stock, version FROM products WHERE id > $1 ORDER BY id LIMIT $2
