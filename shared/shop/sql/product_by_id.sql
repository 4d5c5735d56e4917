-- One product. $1 id
SELECT id, name, description, price_cents, stock, version FROM products WHERE id = $1
