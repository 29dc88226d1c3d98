import pytest
from conftest import Lazy

torch = Lazy("torch")


@pytest.fixture(autouse=True)
def _double(float64):
    """Both we and the peers compute in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def widened(monkeypatch):
    """Also in the schedulers of diffusers, which cast their inputs to float32."""
    monkeypatch.setattr("torch.float32", torch.float64)
