"""FastAPI with asyncio sessions; the tenant comes from a header.

uvicorn examples.fastapi_app.app:app
"""
