-- Changes a product that still has an expected version.
-- $1 id, $2 the versions as text[], NULL for any; $3 name, $4 description, $5 price_cents, $6 stock: NULL leaves it as it is
UPDATE products
   SET name = coalesce($3, name), description = coalesce($4, description),
       price_cents = coalesce($5, price_cents), stock = coalesce($6, stock),
       version = version + 1, updated_at = now()
 WHERE id = $1 AND ($2::text[] IS NULL OR version = ANY ($2::text[]::int[]))
RETURNING id, name, description, price_cents, stock, version
