from aetheris_chassis.postgres import acquiring, open_pool


async def test_a_pool_answers(database):
    async with open_pool(database) as pool, acquiring(pool) as connection:
        assert await connection.fetchval("SELECT 1") == 1
        assert await connection.fetchval("SHOW fsync") == "on"
