"""The data that every variant starts with: the same for the same two numbers, on any machine.

Numbers are drawn by a multiplicative hash of the row's number (Knuth's constant), not by random(): plans, answers and
timings can be compared between runs.
"""

LINES_PER_ORDER_MAX = 20
STOCK_MIN, STOCK_SPREAD = 1_000, 9_000
CUSTOMERS = 10_000
OWNER = "local"  # of every order: the identity that requests have where no authorizer runs


def _draw(expression: str, below: str) -> str:
    """A number from 0 up to `below`, from the upper bits of the hash: the lower ones repeat too soon."""
    return f"(((({expression})::bigint * 2654435761) % 4294967296) >> 8) % {below}"


# $1 products
PRODUCTS = f"""
    INSERT INTO products (id, name, description, price_cents, stock, created_at, updated_at)
    SELECT i, 'Product ' || i, repeat('What product ' || i || ' is good for. ', 5),
           99 + {_draw("i", "50000")}, {STOCK_MIN} + {_draw("i + 7", str(STOCK_SPREAD))},
           timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second',
           timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second'
      FROM generate_series(1, $1::bigint) AS i"""

# $1 products, $2 orders
ORDER_LINES = f"""
    INSERT INTO order_lines (order_id, line_no, product_id, quantity, unit_price_cents)
    SELECT o, n, 1 + {_draw("o * 31 + n", "$1::bigint")}, 1 + {_draw("o + n", "3")}, 99 + {_draw("o * 7 + n", "50000")}
      FROM generate_series(1, $2::bigint) AS o,
           LATERAL generate_series(1, 1 + {_draw("o", str(LINES_PER_ORDER_MAX))}) AS n"""

ORDERS = f"""
    INSERT INTO orders (id, subject, customer_id, status, total_cents, created_at)
    SELECT order_id, '{OWNER}', 1 + {_draw("order_id", str(CUSTOMERS))}, 'placed', sum(quantity * unit_price_cents)::bigint,
           timestamptz '2026-02-01 00:00:00+00' + order_id * interval '1 second'
      FROM order_lines GROUP BY order_id ORDER BY order_id"""

# Identity columns go on where the seed ended. $1 the table
NEXT_IDENTITY = """
    SELECT setval(pg_get_serial_sequence($1::text, 'id'), coalesce(max(id), 0) + 1, false) FROM {table}"""
